"""What people import: the classes and functions behind the names of `rein_jax`."""
