-- One text for SQLite and PostgreSQL. {id} is the only thing that differs: SQLite wants exactly
-- INTEGER PRIMARY KEY for a table that is its own index. JSON is text on both: it is only carried.
-- Times are integer milliseconds since the epoch. Every id comes from one growing sequence.
-- A line that starts with --sqlite: or --postgres: is executed there only.

CREATE TABLE server (
  id {id},
  server_id TEXT NOT NULL,
  created_ms BIGINT NOT NULL
);

--sqlite: CREATE TABLE key_sequence (id INTEGER PRIMARY KEY, next_id BIGINT NOT NULL);
--sqlite: INSERT INTO key_sequence (id, next_id) VALUES (1, 1);
--postgres: CREATE SEQUENCE key_sequence;

CREATE TABLE workflow (
  id {id},
  key TEXT UNIQUE,
  rev BIGINT NOT NULL DEFAULT 1,
  name TEXT NOT NULL DEFAULT '',
  user_name TEXT NOT NULL DEFAULT '',
  description TEXT NOT NULL DEFAULT '',
  timestamp TEXT NOT NULL DEFAULT '',
  is_archived BOOLEAN NOT NULL DEFAULT FALSE,
  owner TEXT NOT NULL DEFAULT '',
  config TEXT NOT NULL,
  config_rev BIGINT NOT NULL DEFAULT 1,
  status_rev BIGINT NOT NULL DEFAULT 1,
  run_id BIGINT NOT NULL DEFAULT 0,
  is_canceled BOOLEAN NOT NULL DEFAULT FALSE,
  completion_script_claimed BOOLEAN,
  auto_tune_status TEXT NOT NULL,
  scheduled_compute_node_ids TEXT NOT NULL DEFAULT '[]',
  event_sequence BIGINT NOT NULL DEFAULT 0,
  num_failed BIGINT NOT NULL DEFAULT 0,
  n_uninitialized BIGINT NOT NULL DEFAULT 0,
  n_blocked BIGINT NOT NULL DEFAULT 0,
  n_ready BIGINT NOT NULL DEFAULT 0,
  n_scheduled BIGINT NOT NULL DEFAULT 0,
  n_submitted_pending BIGINT NOT NULL DEFAULT 0,
  n_submitted BIGINT NOT NULL DEFAULT 0,
  n_done BIGINT NOT NULL DEFAULT 0,
  n_canceled BIGINT NOT NULL DEFAULT 0,
  n_terminated BIGINT NOT NULL DEFAULT 0,
  n_disabled BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE request_class (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  num_cpus BIGINT NOT NULL,
  num_gpus BIGINT NOT NULL,
  num_nodes BIGINT NOT NULL,
  memory_bytes BIGINT NOT NULL,
  runtime_seconds DOUBLE PRECISION NOT NULL,
  scheduler_config_id TEXT NOT NULL,
  priority BIGINT NOT NULL,
  n_claimable BIGINT NOT NULL DEFAULT 0,
  UNIQUE (workflow_id, num_cpus, num_gpus, num_nodes, memory_bytes, runtime_seconds,
          scheduler_config_id, priority)
);

CREATE TABLE resource_requirements (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  name TEXT,
  num_cpus BIGINT NOT NULL DEFAULT 1,
  num_gpus BIGINT NOT NULL DEFAULT 0,
  num_nodes BIGINT NOT NULL DEFAULT 1,
  memory TEXT NOT NULL DEFAULT '1m',
  runtime TEXT NOT NULL DEFAULT 'P0DT1M'
);
CREATE UNIQUE INDEX resource_requirements_key ON resource_requirements (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX resource_requirements_workflow ON resource_requirements (workflow_id, id);

-- The three scheduler collections share one table: only `name` is asked for, the rest is carried.
CREATE TABLE scheduler_config (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  kind TEXT NOT NULL,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  name TEXT,
  body TEXT NOT NULL DEFAULT '{}',
  paused_reason TEXT
);
CREATE UNIQUE INDEX scheduler_config_key ON scheduler_config (workflow_id, kind, key) WHERE key IS NOT NULL;
CREATE INDEX scheduler_config_workflow ON scheduler_config (workflow_id, kind, id);

CREATE TABLE job (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  name TEXT,
  command TEXT NOT NULL,
  invocation_script TEXT,
  status TEXT NOT NULL,
  cancel_on_blocking_job_failure BOOLEAN NOT NULL DEFAULT TRUE,
  supports_termination BOOLEAN NOT NULL DEFAULT FALSE,
  schedule_compute_nodes TEXT,
  resource_requirements_id BIGINT REFERENCES resource_requirements (id) ON DELETE SET NULL,
  scheduler_id BIGINT REFERENCES scheduler_config (id) ON DELETE SET NULL,
  num_cpus BIGINT NOT NULL DEFAULT 0,
  num_gpus BIGINT NOT NULL DEFAULT 0,
  num_nodes BIGINT NOT NULL DEFAULT 0,
  memory_bytes BIGINT NOT NULL DEFAULT 0,
  runtime_seconds DOUBLE PRECISION NOT NULL DEFAULT 0,
  scheduler_config_id TEXT NOT NULL DEFAULT '',
  input_hash BIGINT NOT NULL DEFAULT 0,
  priority BIGINT NOT NULL DEFAULT 0,
  retries BIGINT NOT NULL DEFAULT 0,
  env TEXT,
  workdir TEXT,
  stdout TEXT NOT NULL DEFAULT 'separate',
  resources TEXT,
  time_request DOUBLE PRECISION,
  request_class_id BIGINT REFERENCES request_class (id),
  unfinished_blockers BIGINT NOT NULL DEFAULT 0,
  -- True exactly when the job is ready or scheduled and no attempt of it is still open.
  claimable BOOLEAN NOT NULL DEFAULT FALSE,
  -- Row of the attempt that is open, whatever the status says: a job taken away from its node is
  -- ready again at once but may not be claimed before the old attempt is known to be over.
  open_attempt BIGINT,
  return_code BIGINT,
  scheduled_run_id BIGINT,
  held_reason TEXT
);
CREATE UNIQUE INDEX job_key ON job (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX job_workflow ON job (workflow_id, id);
CREATE INDEX job_status ON job (workflow_id, status, id);
CREATE INDEX job_claimable ON job (request_class_id, id) WHERE claimable;
CREATE INDEX job_name ON job (workflow_id, name);
CREATE INDEX job_requirements ON job (resource_requirements_id) WHERE resource_requirements_id IS NOT NULL;

CREATE TABLE file (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  name TEXT,
  path TEXT NOT NULL,
  st_mtime DOUBLE PRECISION
);
CREATE UNIQUE INDEX file_key ON file (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX file_workflow ON file (workflow_id, id);

CREATE TABLE user_data (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  name TEXT,
  is_ephemeral BOOLEAN NOT NULL DEFAULT FALSE,
  data TEXT
);
CREATE UNIQUE INDEX user_data_key ON user_data (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX user_data_workflow ON user_data (workflow_id, id);

-- Rows for blocks, needs, produces, consumes, stores and what clients post. The other six edge
-- collections are views over foreign keys.
CREATE TABLE edge (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  name TEXT NOT NULL,
  from_id BIGINT NOT NULL,
  to_id BIGINT NOT NULL,
  data TEXT,
  UNIQUE (workflow_id, name, from_id, to_id)
);
-- With from_id it holds all that a query about blockers needs; without, SQLite would rather walk the
-- whole UNIQUE index above, which does.
CREATE INDEX edge_to ON edge (workflow_id, name, to_id, from_id);
CREATE INDEX edge_workflow ON edge (workflow_id, name, id);

CREATE TABLE launch (
  id {id},
  tag TEXT NOT NULL UNIQUE,
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  backend TEXT NOT NULL,
  scheduler_id BIGINT NOT NULL,
  scheduler_config_id TEXT NOT NULL,
  count BIGINT NOT NULL,
  state TEXT NOT NULL,
  automatic BOOLEAN NOT NULL DEFAULT FALSE,
  parameters TEXT NOT NULL DEFAULT '{}',
  error TEXT,
  not_before_ms BIGINT NOT NULL DEFAULT 0,
  created_ms BIGINT NOT NULL
);
CREATE INDEX launch_open ON launch (backend, state) WHERE state IN ('stored', 'submitting');
CREATE INDEX launch_workflow ON launch (workflow_id, id);

CREATE TABLE scheduled_compute_node (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  scheduler_id TEXT,
  scheduler_config_id TEXT NOT NULL,
  status TEXT NOT NULL,
  launch_id BIGINT REFERENCES launch (id) ON DELETE SET NULL,
  row_index BIGINT NOT NULL DEFAULT 0,
  reason TEXT,
  cause TEXT,
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
  end_ms BIGINT,
  created_ms BIGINT NOT NULL DEFAULT 0,
  ended_ms BIGINT
);
CREATE UNIQUE INDEX scheduled_compute_node_key ON scheduled_compute_node (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX scheduled_compute_node_workflow ON scheduled_compute_node (workflow_id, id);
CREATE INDEX scheduled_compute_node_open ON scheduled_compute_node (launch_id, row_index)
  WHERE status <> 'complete';

CREATE TABLE compute_node (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  hostname TEXT NOT NULL,
  pid BIGINT NOT NULL,
  start_time TEXT NOT NULL,
  duration_seconds DOUBLE PRECISION,
  is_active BOOLEAN,
  resources TEXT NOT NULL,
  scheduler TEXT NOT NULL DEFAULT '{}',
  -- What follows is empty for nodes of foreign clients: they never renew, so nothing of theirs is
  -- swept by time.
  state TEXT,
  registration_id TEXT UNIQUE,
  boot_id TEXT,
  allocation_id BIGINT,
  node_index BIGINT NOT NULL DEFAULT 0,
  restart_count BIGINT NOT NULL DEFAULT 0,
  num_cpus BIGINT NOT NULL DEFAULT 0,
  num_gpus BIGINT NOT NULL DEFAULT 0,
  memory_bytes BIGINT NOT NULL DEFAULT 0,
  scheduler_config_id TEXT NOT NULL DEFAULT '',
  lease_seconds DOUBLE PRECISION,
  lease_until_ms BIGINT,
  last_seen_ms BIGINT,
  frozen BOOLEAN NOT NULL DEFAULT FALSE,
  draining BOOLEAN NOT NULL DEFAULT FALSE,
  ending BOOLEAN NOT NULL DEFAULT FALSE,
  started_ms BIGINT,
  reason TEXT
);
CREATE UNIQUE INDEX compute_node_key ON compute_node (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX compute_node_workflow ON compute_node (workflow_id, id);
CREATE INDEX compute_node_leased ON compute_node (lease_until_ms) WHERE state IN ('active', 'silent');
CREATE INDEX compute_node_allocation ON compute_node (allocation_id) WHERE allocation_id IS NOT NULL;

-- No foreign key to the job: an attempt outlives a deleted job until its node has confirmed its end.
CREATE TABLE attempt (
  id {id},
  attempt_id TEXT NOT NULL UNIQUE,
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  job_id BIGINT NOT NULL,
  run_id BIGINT NOT NULL,
  number BIGINT NOT NULL,
  compute_node_id BIGINT,
  state TEXT NOT NULL,
  claimed_ms BIGINT NOT NULL,
  started_ms BIGINT,
  ended_ms BIGINT,
  cause TEXT,
  return_code BIGINT,
  signal BIGINT,
  exec_seconds DOUBLE PRECISION,
  pid BIGINT,
  num_cpus BIGINT NOT NULL DEFAULT 0,
  num_gpus BIGINT NOT NULL DEFAULT 0,
  memory_bytes BIGINT NOT NULL DEFAULT 0,
  cpu_seconds DOUBLE PRECISION,
  max_rss_bytes BIGINT,
  stdout_path TEXT,
  stderr_path TEXT,
  message TEXT,
  UNIQUE (job_id, run_id, number)
);
CREATE INDEX attempt_open ON attempt (compute_node_id) WHERE state <> 'ended';
CREATE INDEX attempt_workflow ON attempt (workflow_id, id);

CREATE TABLE result (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  job_id BIGINT,
  job_key TEXT NOT NULL,
  run_id BIGINT NOT NULL,
  return_code BIGINT NOT NULL,
  exec_time_minutes DOUBLE PRECISION NOT NULL,
  completion_time TEXT NOT NULL,
  status TEXT NOT NULL,
  UNIQUE (job_id, run_id)
);
CREATE UNIQUE INDEX result_key ON result (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX result_workflow ON result (workflow_id, id);

CREATE TABLE compute_node_stats (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  hostname TEXT NOT NULL,
  timestamp TEXT NOT NULL,
  stats TEXT NOT NULL DEFAULT '[]',
  compute_node_id BIGINT
);
CREATE UNIQUE INDEX compute_node_stats_key ON compute_node_stats (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX compute_node_stats_workflow ON compute_node_stats (workflow_id, id);

CREATE TABLE job_process_stats (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  job_key TEXT NOT NULL,
  job_id BIGINT,
  run_id BIGINT NOT NULL,
  avg_cpu_percent DOUBLE PRECISION NOT NULL,
  max_cpu_percent DOUBLE PRECISION NOT NULL,
  avg_rss DOUBLE PRECISION NOT NULL,
  max_rss DOUBLE PRECISION NOT NULL,
  num_samples BIGINT NOT NULL,
  timestamp TEXT NOT NULL
);
CREATE UNIQUE INDEX job_process_stats_key ON job_process_stats (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX job_process_stats_workflow ON job_process_stats (workflow_id, id);
CREATE INDEX job_process_stats_job ON job_process_stats (job_id, run_id);

CREATE TABLE event (
  id {id},
  workflow_id BIGINT NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
  key TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  sequence BIGINT NOT NULL,
  timestamp BIGINT NOT NULL,
  category TEXT,
  type TEXT,
  body TEXT NOT NULL DEFAULT '{}',
  UNIQUE (workflow_id, sequence)
);
CREATE UNIQUE INDEX event_key ON event (workflow_id, key) WHERE key IS NOT NULL;
CREATE INDEX event_timestamp ON event (workflow_id, timestamp);

CREATE TABLE token (
  id {id},
  hash TEXT NOT NULL UNIQUE,
  label TEXT NOT NULL DEFAULT '',
  scope TEXT NOT NULL,
  user_name TEXT NOT NULL DEFAULT '',
  workflow_id BIGINT REFERENCES workflow (id) ON DELETE CASCADE,
  allocation_id BIGINT,
  compute_node_id BIGINT,
  created_ms BIGINT NOT NULL,
  expires_ms BIGINT,
  revoked_ms BIGINT
);
CREATE INDEX token_compute_node ON token (compute_node_id) WHERE compute_node_id IS NOT NULL;

CREATE TABLE submitter_lease (
  id {id},
  site TEXT NOT NULL,
  backend TEXT NOT NULL,
  holder TEXT NOT NULL,
  until_ms BIGINT NOT NULL,
  UNIQUE (site, backend)
);

CREATE TABLE idempotency (
  id {id},
  principal TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  response TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  UNIQUE (principal, idempotency_key)
);
CREATE INDEX idempotency_age ON idempotency (created_ms);
