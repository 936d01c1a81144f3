"""The daemon's HTTP server: its health, and what plugins serve (the hook `routes`).

`listening` is the server, `application` what it answers, `desk` whom it asks, `inbox` where what
came is written. Nothing is imported here: the simulators of plugins are served by `listening`, too.
"""
