"""From small subject networks to datasets for models that interpret weights."""
