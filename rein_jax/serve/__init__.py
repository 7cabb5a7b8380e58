"""A small local web page and an endpoint for programs, over one or several models on one resident frozen backbone."""
