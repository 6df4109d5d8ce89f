-- @description: Date, scheduled clock and time_hour are real and agree with each other.
-- @severity: error
-- @tags: validity, time
-- @remediation: Reject the file (rat reject nyc/flights FILE) and ask the sender for the right one.
SELECT
    source_file,
    year,
    month,
    day,
    sched_dep_time,
    time_hour,
    carrier,
    flight
FROM {{ this }}
WHERE
    CASE
        WHEN try_strptime(format('{}-{}-{}', year, month, day), '%Y-%m-%d') IS NULL THEN true
        WHEN sched_dep_time NOT BETWEEN 0 AND 2400 OR sched_dep_time % 100 > 59 THEN true
        ELSE time_hour IS DISTINCT FROM
            make_timestamp(year, month, day, hour, 0, 0) AT TIME ZONE 'America/New_York'
    END
