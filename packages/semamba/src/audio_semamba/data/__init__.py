"""Clean and noisy recordings: found and matched in `pairs`, made into samples in `samples`, noises in `noises`."""
