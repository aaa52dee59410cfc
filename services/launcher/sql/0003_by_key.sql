-- What a token holds is locked by its keys: looked up here, all of the token's rows were met once for each key.
DROP INDEX launches_leased;
-- A batch is written in the transaction that puts its launches into it, and stays while it has some: to prove that
-- for each launch again costs a query each.
ALTER TABLE launches DROP CONSTRAINT launches_batch_token_fkey;
