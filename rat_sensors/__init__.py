"""When it happens: jobs, schedules and sensors, which know assets by key and import none."""
