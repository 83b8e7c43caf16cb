"""Scheduled deliveries to the city big-data center 市大数据中心: plan, build, publish whole, verify, account for."""
