//! The session of a destination's control connection: `Attend` in, `Summon` out.
