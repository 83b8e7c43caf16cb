-- The ledger before it had numbered schemas: what an installation of that time holds.
CREATE TABLE alert (
	alert_id VARCHAR NOT NULL, 
	rule_code VARCHAR NOT NULL, 
	subject_type VARCHAR NOT NULL, 
	subject_id VARCHAR NOT NULL, 
	severity VARCHAR NOT NULL, 
	message VARCHAR NOT NULL, 
	evidence TEXT NOT NULL, 
	status VARCHAR NOT NULL, 
	opened_at DATETIME NOT NULL, 
	closed_at DATETIME, 
	PRIMARY KEY (alert_id)
);
CREATE TABLE batch (
	batch_id VARCHAR NOT NULL, 
	resource VARCHAR NOT NULL, 
	contract_version VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	object_count INTEGER NOT NULL, 
	decoded_count BIGINT NOT NULL, 
	accepted_count BIGINT NOT NULL, 
	quarantined_count BIGINT NOT NULL, 
	duplicate_count BIGINT NOT NULL, 
	first_part_date DATE, 
	last_part_date DATE, 
	failures INTEGER NOT NULL, 
	watermark TEXT, 
	as_of_at DATETIME, 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	PRIMARY KEY (batch_id)
);
CREATE TABLE batch_object (
	batch_id VARCHAR NOT NULL, 
	seq INTEGER NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	resource VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	media_type VARCHAR NOT NULL, 
	size BIGINT NOT NULL, 
	status VARCHAR NOT NULL, 
	reason VARCHAR, 
	decoded_count BIGINT NOT NULL, 
	accepted_count BIGINT NOT NULL, 
	quarantined_count BIGINT NOT NULL, 
	duplicate_count BIGINT NOT NULL, 
	PRIMARY KEY (batch_id, seq), 
	CONSTRAINT object_once_per_resource UNIQUE (resource, sha256)
);
CREATE TABLE checked_version (
	table_name VARCHAR NOT NULL, 
	version BIGINT NOT NULL, 
	checked_at DATETIME NOT NULL, 
	run_id VARCHAR NOT NULL, 
	PRIMARY KEY (table_name)
);
CREATE TABLE checked_version_as_of (
	table_name VARCHAR NOT NULL, 
	version BIGINT NOT NULL, 
	as_of_at DATETIME NOT NULL, 
	PRIMARY KEY (table_name, version)
);
CREATE TABLE checked_version_history (
	table_name VARCHAR NOT NULL, 
	version BIGINT NOT NULL, 
	checked_at DATETIME NOT NULL, 
	run_id VARCHAR NOT NULL, 
	PRIMARY KEY (table_name, version)
);
CREATE TABLE dataset_version (
	dataset VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	source_table VARCHAR NOT NULL, 
	source_version BIGINT NOT NULL, 
	row_count BIGINT NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	published_at DATETIME NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (dataset, version)
);
CREATE TABLE delivery (
	delivery_id VARCHAR NOT NULL, 
	resource VARCHAR NOT NULL, 
	mode VARCHAR NOT NULL, 
	business_date DATE NOT NULL, 
	sequence INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	stem VARCHAR, 
	path VARCHAR, 
	row_count BIGINT, 
	insert_count BIGINT, 
	update_count BIGINT, 
	delete_count BIGINT, 
	source_table VARCHAR, 
	source_version BIGINT, 
	due_at DATETIME NOT NULL, 
	sent_at DATETIME, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (delivery_id), 
	CONSTRAINT delivery_once UNIQUE (resource, business_date, sequence)
);
CREATE TABLE ingest_run (
	run_id VARCHAR NOT NULL, 
	resource VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	received_objects INTEGER NOT NULL, 
	duplicate_objects INTEGER NOT NULL, 
	batch_id VARCHAR, 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	as_of_at DATETIME, 
	error_code VARCHAR, 
	error_message VARCHAR, 
	PRIMARY KEY (run_id)
);
CREATE TABLE quality_result (
	run_id VARCHAR NOT NULL, 
	table_name VARCHAR NOT NULL, 
	rule_id VARCHAR NOT NULL, 
	layer VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	examined_count BIGINT NOT NULL, 
	failed_count BIGINT NOT NULL, 
	part_date_from DATE, 
	part_date_to DATE, 
	message VARCHAR, 
	checked_at DATETIME NOT NULL, 
	PRIMARY KEY (run_id, table_name, rule_id)
);
CREATE TABLE quarantine_replay (
	replay_id VARCHAR NOT NULL, 
	batch_id VARCHAR NOT NULL, 
	source_object VARCHAR NOT NULL, 
	record_from BIGINT NOT NULL, 
	record_to BIGINT NOT NULL, 
	outcome VARCHAR NOT NULL, 
	replayed_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	PRIMARY KEY (replay_id, batch_id, source_object, record_from)
);
CREATE TABLE receipt (
	receipt_id VARCHAR NOT NULL, 
	delivery_id VARCHAR NOT NULL, 
	resource VARCHAR NOT NULL, 
	business_date DATE NOT NULL, 
	sequence INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	rows_in BIGINT NOT NULL, 
	rows_ok BIGINT NOT NULL, 
	rows_bad BIGINT NOT NULL, 
	says_held BOOLEAN NOT NULL, 
	held_batch_id VARCHAR, 
	received_at DATETIME NOT NULL, 
	recorded_at DATETIME NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (receipt_id)
);
CREATE TABLE seen_signature (
	resource VARCHAR NOT NULL, 
	signature VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	PRIMARY KEY (resource, signature)
);
CREATE TABLE watermark (
	resource VARCHAR NOT NULL, 
	state TEXT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (resource)
);
CREATE INDEX ix_batch_object_sha256 ON batch_object (sha256);
CREATE INDEX ix_batch_resource ON batch (resource);
CREATE INDEX ix_ingest_run_resource ON ingest_run (resource);
CREATE INDEX ix_receipt_delivery_id ON receipt (delivery_id);
CREATE INDEX ix_receipt_resource ON receipt (resource);
