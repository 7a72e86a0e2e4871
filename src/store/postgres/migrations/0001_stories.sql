-- Stories, kept once and never changed.
--
-- The id is a UUIDv7, which begins with created_ms, and PostgreSQL compares uuids byte by byte: the order of the ids is
-- the order of (created_ms, id), so each list needs the id alone behind its filter, and the list of all is the primary
-- key read backwards.

CREATE TABLE stories (
    id           uuid   PRIMARY KEY,
    -- SHA-256 of the request in its canonical form: whoever writes a key first wins.
    key          bytea  NOT NULL UNIQUE CHECK (octet_length(key) = 32),
    -- The exact bytes to answer with; not the type json, which would let the server's encoding in.
    json         bytea  NOT NULL CHECK (octet_length(json) > 0),
    -- The folded name of the place. Compared byte by byte, whatever the database's collation.
    location_key text   COLLATE "C" NOT NULL,
    style        text   COLLATE "C" NOT NULL,
    created_ms   bigint NOT NULL
);

CREATE INDEX stories_of_location ON stories (location_key, id);
CREATE INDEX stories_of_style ON stories (style, id);
CREATE INDEX stories_of_both ON stories (location_key, style, id);
