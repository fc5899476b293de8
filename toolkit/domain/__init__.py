"""Pure rules: no I/O, no clock, no randomness; all three are passed in."""
