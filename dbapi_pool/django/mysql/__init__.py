"""Django's MySQL and MariaDB backend over a pool."""
