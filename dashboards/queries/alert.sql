-- The alert queue as a person reads it: what, where, against which rule, whose task, until when.
WITH clock AS (SELECT max(as_of_at) AS as_of_at FROM ads.ads_cockpit__kpi)
SELECT
    a.alert_id,
    a.rule_code,
    CASE a.rule_code
        WHEN 'AL-03' THEN '泳池水质超限' WHEN 'AL-10' THEN '场馆承载率过高' WHEN 'AL-19' THEN '数据超期未更新'
        WHEN 'IN-01' THEN '来源文件被整体拒收'
        WHEN 'QG-01' THEN '数据质量闸门未通过' ELSE a.rule_code
    END AS rule_name,
    a.severity,
    CASE a.severity WHEN 'red' THEN '红' WHEN 'orange' THEN '橙' WHEN 'yellow' THEN '黄' ELSE '提示' END AS severity_name,
    CASE a.severity WHEN 'red' THEN 1 WHEN 'orange' THEN 2 WHEN 'yellow' THEN 3 ELSE 4 END AS severity_order,
    a.subject_name,
    a.district_code,
    coalesce(a.district_name, '全市') AS district_name,
    coalesce(a.observed_text, CAST(a.observed_value AS VARCHAR)) AS observed_text,
    a.threshold_text,
    a.basis_text,
    a.provenance,
    CASE WHEN a.is_law THEN '法规标准' ELSE '管理规则' END AS basis_kind,
    a.owner_name,
    a.opened_at AS opened_time,
    strftime(a.opened_at, '%m-%d %H:%M') AS opened_text,
    a.deadline_at AS deadline_time,
    strftime(a.deadline_at, '%m-%d %H:%M') AS deadline_text,
    CASE WHEN a.status = 'open' AND a.deadline_at < c.as_of_at THEN '已超期' ELSE '' END AS overdue_text,
    a.status,
    CASE a.status WHEN 'open' THEN '待处置' ELSE '已关闭' END AS status_name,
    a.evidence
FROM ads.ads_supervision__alert AS a CROSS JOIN clock AS c
