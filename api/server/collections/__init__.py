"""The collections that a server has loaded, and the routes that show them."""
