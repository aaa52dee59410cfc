-- What removed jobs lost and saved is NULL where no price of them is known, as before their removal; so far it became 0.
ALTER TABLE daily_savings ALTER COLUMN lost_usd DROP NOT NULL, ALTER COLUMN saved_usd DROP NOT NULL;
