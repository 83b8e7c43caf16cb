"""The 体育数据驾驶舱: Superset configuration, roles and assets as code.

Two kinds of module live here. ``superset_config``, ``runtime`` and ``bootstrap`` run inside the cockpit environment
(Superset); ``assets``, ``deploy`` and ``district_map`` need the standard library and PyYAML only and run anywhere.
"""
