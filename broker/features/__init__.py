"""Request handlers, one module a feature, each with one register()."""
