-- Why a further attempt was made: the retry it is, of how many, and how the attempt before it ended.
ALTER TABLE attempts ADD COLUMN retry_because text;
