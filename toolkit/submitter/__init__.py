"""The service that turns scheduler configs into allocations and reconciles them."""
