"""The terminal console: workflows, their jobs, nodes and events, live, with keys for what one does to them."""
