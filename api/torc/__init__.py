"""The torc API at the root: decode, call one service, encode."""
