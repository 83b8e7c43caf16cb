-- Whose file this is, of which roster, up to when; with the demonstration notice when the data asks for one.
SELECT
    s.scope_code AS squad_code,
    s.scope_name AS squad_name,
    (SELECT count(*) FROM dim.dim_squad_member AS m WHERE m.squad_code = s.scope_code AND m.is_current) AS member_count,
    coalesce(strftime((SELECT max(roster_date) FROM dim.dim_squad_member), '%Y-%m-%d'), '—') AS roster_text,
    coalesce(strftime((SELECT max(started_at) FROM ads.ads_training__squad_session), '%Y-%m-%d %H:%M'), '—') AS last_session_text,
    coalesce((SELECT max(text) FROM main.catalog_notice WHERE name = '业务截至'), '—') AS as_of_text,
    coalesce((SELECT max(text) FROM main.catalog_notice WHERE name = '数据声明' AND text <> '正式数据'), '') AS notice
FROM main.catalog_scope AS s
