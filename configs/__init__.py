"""Experiment files: `get_config(arg) -> ConfigDict`. `rein train --config configs/NAME.py[:key=value,...]`."""
