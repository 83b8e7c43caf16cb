"""How dbt is run: the incremental planner, the layer runner and the plugin that stores models as Delta tables."""
