"""The zstd dictionaries that ship, each under its id, and the script that made them. `wire.dictionary` reads them."""
