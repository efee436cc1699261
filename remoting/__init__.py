"""The wire: frames, commands, headers and bodies, and the connections that carry them."""
