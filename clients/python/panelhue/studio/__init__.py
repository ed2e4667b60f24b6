"""The studio: a web page for those who would rather look and click. A client of the two servers like any other.

`desk` holds what one browser tab works on, `desks` finds it, `runs` colourises it, `pool` fills and reads pools,
`pictures` makes what a browser can show; `words`, `wall`, `strip`, `viewer`, `colours` and `drift` write the HTML.
`page` and `look` lay it out with gradio, the `handlers` answer its events, `routes` gives pictures, `application` joins
them and `serve` runs it. Only these last import gradio or what comes with it (the extra `ui`).
"""
