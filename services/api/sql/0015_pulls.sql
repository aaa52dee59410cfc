-- How far the attempt is in its phase, in the agent's words: "pulling 340 of 1,200 MB". It is written with heartbeats:
-- an index that names it would keep them from being made in place.
ALTER TABLE attempts ADD COLUMN phase_detail text;
