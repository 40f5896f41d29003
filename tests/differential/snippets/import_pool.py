import pool
