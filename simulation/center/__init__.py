"""A mock city big-data center: it knows the published interface specification and nothing of the platform."""
