-- By the defaults a table is vacuumed once a fifth of it is dead: at a million rows a day the relay would read past
-- hundreds of thousands of dead entries of outbox_unsent. Each row of the outbox leaves two dead ones, each of the
-- inbox one, a day later.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 10000);
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 10000);
ALTER TABLE parked SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
