//! zako_actors
