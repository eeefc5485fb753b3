-- How servers that wait reach the one that leads, so that they can pass on what they are asked.
ALTER TABLE bq.leader ADD COLUMN link text;  -- host and port, once it listens there

-- What each of them shows the other that it knows: whoever reads this may speak for any client.
CREATE TABLE bq.link (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key bytea NOT NULL
);
INSERT INTO bq.link (key) VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
