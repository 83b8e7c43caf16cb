-- State of every source: is it in time, and does what was received balance with what was accounted for?
SELECT
    resource,
    title,
    CASE update_cycle WHEN 'hourly' THEN '每小时' WHEN 'daily' THEN '每日' WHEN 'weekly' THEN '每周'
        WHEN 'monthly' THEN '每月' ELSE update_cycle END AS update_cycle,
    CASE state WHEN 'fresh' THEN '✓ 及时' WHEN 'late' THEN '! 迟到' WHEN 'failed' THEN '✕ 失败' ELSE '— 从未到达' END AS state_name,
    coalesce(reason, '') AS reason,
    latest_data_date,
    strftime(last_success_at, '%m-%d %H:%M') AS last_success_text,
    received_count, accepted_count, quarantined_count, duplicate_count,
    CASE WHEN received_count = accepted_count + quarantined_count + duplicate_count THEN '✓ 平衡' ELSE '✕ 不平衡' END AS balance
FROM ads.ads_cockpit__freshness
