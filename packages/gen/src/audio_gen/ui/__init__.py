"""The web page of a model: what the verbs do, in a browser.

`form` says what a model can be asked for, `actions` does it, `pictures` draws, `page` puts it on a page of gradio, and
`command` is the verb. gradio is imported when the verb runs.
"""
