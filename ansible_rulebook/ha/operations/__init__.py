"""What operators see of a cluster, and steer it with."""
