"""What both servers share: errors, status table, interceptors, lifecycle, limits, image decoding, geometry."""
