"""Our own endpoints, beside the published APIs and additive to them."""
