//! Real places (GeoNames), embedded.
