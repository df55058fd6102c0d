"""A run's copy in object storage: written while it trains, and gone on with on another machine."""
