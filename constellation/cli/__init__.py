"""The commands: `main` chooses one by name, every other module is one command."""
