"""Column names and Chinese titles with the kind of item they hold, labelled by hand; None: nothing sensitive.

Written after the habits of booking, membership, event, fitness-test and device systems by the hands that wrote
catalog/detectors/names.yaml: read precision and recall on it as an upper bound.
"""

LABELLED: tuple[tuple[str, str | None], ...] = (
    # identity documents
    ("idCard", "id_no"), ("id_card_no", "id_no"), ("IDCARDNO", "id_no"), ("identityNumber", "id_no"), ("user_id_card", "id_no"),
    ("sfzh", "id_no"), ("SFZHM", "id_no"), ("zjhm", "id_no"), ("cert_no", "id_no"), ("certificateNumber", "id_no"),
    ("身份证", "id_no"), ("身份证号", "id_no"), ("学员身份证号码", "id_no"), ("证件号码", "id_no"), ("监护人证件号", "id_no"),
    ("credentialNo", "id_no"), ("gmsfhm", "id_no"), ("citizen_id_number", "id_no"), ("passportNo", "passport"), ("护照号", "passport"),
    ("id", None), ("card_type", None), ("idType", None), ("证件类型", None), ("certType", None), ("certificate_name", None),
    ("venue_id", None), ("orderId", None), ("id_rule", None), ("登记证号", None), ("资质证书", None),
    # phones
    ("phone", "phone"), ("mobile", "phone"), ("mobilePhone", "phone"), ("telNo", "phone"), ("contact_tel", "phone"), ("phone_1", "phone"),
    ("emergencyPhone", "phone"), ("sjhm", "phone"), ("lxdh", "phone"), ("手机", "phone"), ("手机号码", "phone"), ("联系电话", "phone"),
    ("紧急联系方式", "phone"), ("家长电话", "phone"), ("msisdn", "phone"), ("phone_model", None), ("mobile_app_version", None),
    ("telemetry", None), ("hotel_name", None), ("手机型号", None), ("通话时长", None),
    # accounts
    ("bankCardNo", "bank_card"), ("bank_account", "bank_card"), ("accountNumber", "bank_card"), ("银行卡号", "bank_card"),
    ("支付账号", "bank_card"), ("yhkh", "bank_card"), ("card_number", "bank_card"), ("account_type", None), ("bank_name", None),
    ("payMethod", None), ("会员卡号", None), ("pay_amount", None),
    # names of persons
    ("name_of_person", None), ("contactName", "person_name"), ("full_name", "person_name"), ("realName", "person_name"),
    ("guardian_name", "person_name"), ("athleteName", "person_name"), ("coach_name", "person_name"), ("xm", "person_name"),
    ("姓名", "person_name"), ("联系人", "person_name"), ("学员姓名", "person_name"), ("监护人姓名", "person_name"), ("surname", "person_name"),
    ("venue_name", None), ("eventName", None), ("product_name", None), ("赛事名称", None), ("单位名称", None), ("file_name", None),
    ("district_name", None), ("场馆名称", None), ("hostname", None), ("rename_count", None),
    # places
    ("homeAddress", "home_address"), ("home_addr_detail", "address"), ("residential_address", "home_address"), ("家庭住址", "home_address"),
    ("户籍地址", "home_address"), ("通讯地址", "home_address"), ("jtzz", "home_address"), ("address", "address"), ("venue_address", "address"),
    ("详细地址", "address"), ("ip_address", None), ("macAddress", None), ("网址", None), ("邮箱地址", "email"), ("longitude", "coordinate"),
    ("lat", "coordinate"), ("GPSPosition", "coordinate"), ("起点经度", "coordinate"), ("纬度", "coordinate"), ("坐标系", None),
    ("latency", None), ("platform", None), ("plate_type", None), ("location_type", None), ("flat_rate", None), ("along_track_m", None),
    # persons' attributes
    ("birthday", "birth_date"), ("birth_date", "birth_date"), ("dateOfBirth", "birth_date"), ("csrq", "birth_date"), ("出生年月", "birth_date"),
    ("出生日期", "birth_date"), ("age", "birth_year"), ("birthYear", "birth_year"), ("年龄", "birth_year"), ("ageGroup", None), ("年龄段", None),
    ("avg_age", None), ("package", None), ("usage_pct", None), ("page_no", None), ("gender", "gender"), ("sex", "gender"), ("性别", "gender"),
    ("isMinor", "minor_flag"), ("是否未成年人", "minor_flag"), ("minor_version", None),
    # health, body, biometrics
    ("heartRate", "heart_rate"), ("avg_heart_rate", "heart_rate"), ("maxHr", "heart_rate"), ("resting_hr_bpm", "heart_rate"), ("HRV", "heart_rate"),
    ("平均心率", "heart_rate"), ("脉搏", "heart_rate"), ("hr_department", None), ("threshold", None), ("bloodPressure", "health"),
    ("disease_history", "health"), ("既往病史", "health"), ("用药情况", "health"), ("injury_type", "health"), ("血氧", "health"),
    ("height_cm", "body_measure"), ("身高", "body_measure"), ("体重", "body_measure"), ("bmi", "body_measure"), ("ceiling_height_m", None),
    ("weight_factor", None), ("faceImage", "biometric"), ("人脸照片", "biometric"), ("fingerprint", "biometric"), ("interface", None), ("surface_type", None),
    # others
    ("email", "email"), ("e_mail", "email"), ("电子邮箱", "email"), ("licensePlate", "plate_no"), ("车牌号", "plate_no"), ("uscc", "uscc"),
    ("creditCode", "uscc"), ("统一社会信用代码", "uscc"), ("credit_score", None), ("password", "credential"), ("apiKey", "credential"), ("密码", "credential"),
    ("passed_count", None), ("keyword", None), ("athleteNo", "athlete_no"), ("运动员注册号", "athlete_no"), ("openid", "person_token"), ("memberId", "person_token"),
    ("user_id", "person_token"), ("会员编号", "person_token"), ("member_count", None), ("区划代码", None), ("status", None), ("created_at", None),
    ("amount", None), ("数量", None), ("开放时间", None), ("水温", None), ("设备编号", None), ("remark", None), ("备注", None), ("sport_code", None),
)  # fmt: skip
