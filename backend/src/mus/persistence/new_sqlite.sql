CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE job_events (
	id INTEGER NOT NULL, 
	job_id VARCHAR(32) NOT NULL, 
	at BIGINT NOT NULL, 
	event VARCHAR(32) NOT NULL, 
	attempt INTEGER NOT NULL, 
	details JSON, 
	PRIMARY KEY (id)
);

CREATE INDEX ix_job_events_job ON job_events (job_id, id);

CREATE TABLE jobs (
	id VARCHAR(32) NOT NULL, 
	task VARCHAR(100) NOT NULL, 
	queue VARCHAR(50) NOT NULL, 
	arguments JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempt INTEGER NOT NULL, 
	delivery INTEGER NOT NULL, 
	progress FLOAT NOT NULL, 
	stage VARCHAR(100), 
	units_done INTEGER NOT NULL, 
	units_total INTEGER NOT NULL, 
	checkpoint JSON, 
	result JSON, 
	error_category VARCHAR(32), 
	error_message TEXT, 
	error_details JSON, 
	parent_id VARCHAR(32), 
	children_open INTEGER NOT NULL, 
	continuation VARCHAR(100), 
	continuation_queue VARCHAR(50), 
	continuation_id VARCHAR(32), 
	retry_of VARCHAR(32), 
	requested_by VARCHAR(200), 
	dedupe_key VARCHAR(200), 
	exclusive_key VARCHAR(200), 
	run_after BIGINT, 
	cancel_requested_at BIGINT, 
	worker_id VARCHAR(32), 
	created_at BIGINT NOT NULL, 
	published_at BIGINT, 
	started_at BIGINT, 
	finished_at BIGINT, max_attempts INTEGER DEFAULT 4 NOT NULL, retry_number INTEGER DEFAULT 0 NOT NULL, error_reason VARCHAR(200), cleared_at BIGINT, delay_seconds FLOAT, version VARCHAR(40), 
	PRIMARY KEY (id)
);

CREATE INDEX ix_jobs_finished ON jobs (finished_at);

CREATE INDEX ix_jobs_parent ON jobs (parent_id);

CREATE INDEX ix_jobs_state_queue ON jobs (state, queue);

CREATE INDEX ix_jobs_task ON jobs (task, id);

CREATE UNIQUE INDEX uq_jobs_dedupe_waiting ON jobs (dedupe_key) WHERE state = 'queued' AND dedupe_key IS NOT NULL;

CREATE UNIQUE INDEX uq_jobs_exclusive_active ON jobs (exclusive_key) WHERE state IN ('running', 'waiting') AND exclusive_key IS NOT NULL;

CREATE TABLE libraries (
	id INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	root BLOB NOT NULL, 
	device BIGINT, 
	online BOOLEAN NOT NULL, 
	offline_reason TEXT, 
	created_at BIGINT NOT NULL, watch VARCHAR(16) DEFAULT 'auto' NOT NULL, guard_min_tracks INTEGER, guard_fraction FLOAT, watch_mode VARCHAR(16), watch_reason TEXT, removing_since BIGINT, track_changes BIGINT DEFAULT 0 NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);

CREATE TABLE schedules (
	name VARCHAR(100) NOT NULL, 
	task VARCHAR(100) NOT NULL, 
	queue VARCHAR(50) NOT NULL, 
	arguments JSON NOT NULL, 
	crontab VARCHAR(100) NOT NULL, 
	next_due BIGINT NOT NULL, 
	last_fired_at BIGINT, enabled BOOLEAN DEFAULT 1 NOT NULL, edited_at BIGINT, last_job_id VARCHAR(32), library_id INTEGER REFERENCES libraries (id) ON DELETE CASCADE, 
	PRIMARY KEY (name)
);

CREATE TABLE workers (
	id VARCHAR(32) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	queues JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	beat BIGINT NOT NULL, 
	beat_at BIGINT NOT NULL, 
	started_at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE tracks (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	library_id INTEGER NOT NULL, 
	path BLOB NOT NULL, 
	size BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	ctime_ns BIGINT NOT NULL, 
	inode BIGINT NOT NULL, 
	device BIGINT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	error_category VARCHAR(32), 
	error_message TEXT, 
	analysis_attempts INTEGER DEFAULT 0 NOT NULL, 
	analysis_version INTEGER DEFAULT 0 NOT NULL, 
	title TEXT NOT NULL, 
	artist TEXT, 
	artists JSON, 
	album_artist TEXT, 
	album_artists JSON, 
	album TEXT, 
	track_number INTEGER, 
	track_total INTEGER, 
	disc_number INTEGER, 
	disc_total INTEGER, 
	date VARCHAR(64), 
	year INTEGER, 
	genre TEXT, 
	genres JSON, 
	composer TEXT, 
	comment TEXT, 
	compilation BOOLEAN NOT NULL, 
	lyrics TEXT, 
	musicbrainz JSON, 
	replaygain JSON, 
	duration_seconds FLOAT, 
	bitrate_kbps INTEGER, 
	sample_rate_hz INTEGER, 
	channels INTEGER, 
	format VARCHAR(16), 
	cover VARCHAR(64), 
	audio_hash BLOB, 
	title_key TEXT NOT NULL, 
	artist_key TEXT NOT NULL, 
	album_key TEXT NOT NULL, 
	added_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, words TEXT, title_sort TEXT, artist_sort TEXT, album_artist_sort TEXT, album_sort TEXT, 
	FOREIGN KEY(library_id) REFERENCES libraries (id), 
	UNIQUE (library_id, path)
);

CREATE INDEX ix_tracks_added ON tracks (added_at, id);

CREATE INDEX ix_tracks_album ON tracks (album_key, id);

CREATE INDEX ix_tracks_artist ON tracks (artist_key, id);

CREATE INDEX ix_tracks_inode ON tracks (inode);

CREATE INDEX ix_tracks_title ON tracks (title_key, id);

CREATE TABLE trash_entries (
	id INTEGER NOT NULL, 
	track_id INTEGER NOT NULL, 
	original_path BLOB NOT NULL, 
	trash_path BLOB NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	created_at BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(track_id) REFERENCES tracks (id) ON DELETE CASCADE, 
	UNIQUE (track_id)
);

CREATE TABLE queues (
	name VARCHAR(50) NOT NULL, 
	paused_at BIGINT, 
	paused_by VARCHAR(200), 
	PRIMARY KEY (name)
);

CREATE INDEX ix_jobs_retry_of ON jobs (retry_of) WHERE retry_of IS NOT NULL;

CREATE INDEX ix_jobs_run_after ON jobs (run_after) WHERE run_after IS NOT NULL;

CREATE TABLE leases (
	name VARCHAR(50) NOT NULL, 
	holder VARCHAR(32) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	beat BIGINT NOT NULL, 
	beat_at BIGINT NOT NULL, 
	held_since BIGINT NOT NULL, 
	PRIMARY KEY (name)
);

CREATE TABLE track_sound (
	track_id INTEGER NOT NULL, 
	audio_hash BLOB NOT NULL, 
	attempts INTEGER DEFAULT 0 NOT NULL, 
	loudness_version INTEGER DEFAULT 0 NOT NULL, 
	integrity_version INTEGER DEFAULT 0 NOT NULL, 
	waveform_version INTEGER DEFAULT 0 NOT NULL, 
	integrated_lufs FLOAT, 
	true_peak FLOAT, 
	integrity VARCHAR(16), 
	integrity_notes JSON, 
	PRIMARY KEY (track_id), 
	FOREIGN KEY(track_id) REFERENCES tracks (id) ON DELETE CASCADE
);

CREATE TABLE track_sound_curves (
	track_id INTEGER NOT NULL, 
	loudness_blocks BLOB, 
	waveform BLOB, 
	PRIMARY KEY (track_id), 
	FOREIGN KEY(track_id) REFERENCES track_sound (track_id) ON DELETE CASCADE
);

CREATE INDEX ix_track_sound_integrity ON track_sound (integrity, track_id);

CREATE TABLE edits (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	track_id INTEGER NOT NULL, 
	job_id VARCHAR(32) NOT NULL, 
	requested_by VARCHAR(200), 
	kind VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	path BLOB NOT NULL, 
	new_path BLOB, 
	part BLOB, 
	versions JSON, 
	"before" JSON, 
	"after" JSON, 
	undoes BIGINT, 
	undone_by BIGINT, 
	created_at BIGINT NOT NULL, 
	finished_at BIGINT, 
	FOREIGN KEY(track_id) REFERENCES tracks (id) ON DELETE CASCADE
);

CREATE INDEX ix_edits_track ON edits (track_id, id);

CREATE INDEX ix_edits_job ON edits (job_id, id);

CREATE INDEX ix_edits_finished ON edits (finished_at);

CREATE INDEX ix_edits_open ON edits (track_id) WHERE state <> 'done';

CREATE TABLE edit_pictures (
	digest VARCHAR(32) NOT NULL, 
	data BLOB NOT NULL, 
	created_at BIGINT NOT NULL, 
	PRIMARY KEY (digest)
);

CREATE TABLE edit_picture_uses (
	edit_id INTEGER NOT NULL, 
	digest VARCHAR(32) NOT NULL, 
	PRIMARY KEY (edit_id, digest), 
	FOREIGN KEY(edit_id) REFERENCES edits (id) ON DELETE CASCADE
);

CREATE INDEX ix_edit_picture_uses_digest ON edit_picture_uses (digest);

CREATE TABLE facts (
	name VARCHAR(50) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);

CREATE INDEX ix_tracks_audio_hash ON tracks (audio_hash) WHERE audio_hash IS NOT NULL;

CREATE INDEX ix_trash_entries_created ON trash_entries (created_at, track_id);

CREATE VIRTUAL TABLE tracks_fts USING fts5(words, content='tracks', content_rowid='id', tokenize='unicode61 remove_diacritics 0', prefix='1', columnsize=0);

CREATE INDEX ix_tracks_status ON tracks (status, id, library_id, format, year, duration_seconds, size, disc_number, track_number);

CREATE INDEX ix_tracks_updated ON tracks (updated_at, id);

CREATE INDEX ix_tracks_year ON tracks (year, id);

CREATE INDEX ix_tracks_duration ON tracks (duration_seconds, id);

CREATE TRIGGER tracks_fts_insert AFTER INSERT ON tracks BEGIN INSERT INTO tracks_fts (rowid, words) SELECT new.id, new.words WHERE new.words IS NOT NULL; END;

CREATE TRIGGER tracks_fts_delete AFTER DELETE ON tracks BEGIN INSERT INTO tracks_fts (tracks_fts, rowid, words) SELECT 'delete', old.id, old.words WHERE old.words IS NOT NULL; END;

CREATE TRIGGER tracks_fts_update AFTER UPDATE OF words ON tracks WHEN old.words IS NOT new.words BEGIN INSERT INTO tracks_fts (tracks_fts, rowid, words) SELECT 'delete', old.id, old.words WHERE old.words IS NOT NULL; INSERT INTO tracks_fts (rowid, words) SELECT new.id, new.words WHERE new.words IS NOT NULL; END;

INSERT INTO alembic_version VALUES ('0013')