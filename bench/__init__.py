"""What the README promises, measured: `python -m bench`. One question a module, answered as `report.Row`s."""
