"""When things run: wiring only. Every piece of work is a verb that the ``tiyu`` command runs as well."""
