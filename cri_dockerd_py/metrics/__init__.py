"""The service's own numbers, and the page that shows them."""
