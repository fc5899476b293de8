"""The documents of each dialect as they travel over HTTP."""
