"""Files -> manifest -> (pack ->) segments: what training and evaluation read. Import the file that you need."""
