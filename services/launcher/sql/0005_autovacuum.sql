-- A launch leaves some four dead rows within seconds, a batch three; the search for due ones reads past their entries.
ALTER TABLE launches SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 10000);
ALTER TABLE batches SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
