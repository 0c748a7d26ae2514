"""The pause container: static binaries and the image that is made of them, without any registry."""
