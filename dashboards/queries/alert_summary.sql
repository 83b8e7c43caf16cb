-- Open alerts counted by severity; every severity is present so that zero is shown as zero.
SELECT
    s.position, s.severity, s.severity_name,
    count(a.alert_id) AS open_count,
    coalesce(strftime(min(a.deadline_at), '%m-%d %H:%M'), '—') AS next_deadline_text
FROM (VALUES (1, 'red', '红色'), (2, 'orange', '橙色'), (3, 'yellow', '黄色'), (4, 'info', '提示'))
    AS s (position, severity, severity_name)
LEFT JOIN ads.ads_supervision__alert AS a ON s.severity = a.severity AND a.status = 'open'
GROUP BY s.position, s.severity, s.severity_name
