"""The pairs of `lbr doctor --record`: several languages, lengths and awkward characters, and one very long document."""

from __future__ import annotations

OVERLONG = "Trams have run on rails through this town since the bridge was built. " * 60  # truncated by every model

REFERENCE_PAIRS: tuple[tuple[str, str], ...] = (
    ("how do I remove limescale from a kettle", "Boil vinegar and water in the kettle, wait an hour, and rinse it."),
    ("how do I remove limescale from a kettle", "Seal the crack where the ants come in."),
    ("capital of Portugal", "Lisbon."),
    ("RED PLANET", "Mars, known for its reddish appearance, is often called the Red Planet."),
    ("Wie entkalkt man einen Wasserkocher?", "Essig löst Kalk: Füllen Sie den Kocher, und spülen Sie gründlich nach."),
    ("quand les figues sont-elles mûres", "Les figues mûrissent en août ; l'été, l'arbre a besoin de beaucoup d'eau."),
    ("¿Dónde viven las nutrias?", "Las nutrias viven en ríos, lagunas y costas, cerca del agua limpia."),
    ("где живут выдры", "Выдры живут по берегам рек и озёр, где много рыбы."),
    ("水壶怎么除水垢", "在水壶里加入白醋和水，煮沸后静置一小时，再用清水冲洗干净。"),
    ("パンの保存方法", "パンは木の箱に入れておくと、数日間やわらかいままです。"),
    ("주전자 물때 제거", "식초와 물을 넣고 끓인 뒤 한 시간 후에 헹굽니다."),
    ("أين تعيش ثعالب الماء", "تعيش ثعالب الماء قرب الأنهار والبحيرات النظيفة."),
    ("चायदानी से चूना कैसे हटाएँ", "सिरका और पानी उबालें, एक घंटे रुकें और धो लें।"),
    ("วิธีขจัดตะกรันในกาน้ำ", "ต้มน้ำส้มสายชูกับน้ำ แล้วล้างให้สะอาด"),
    ("  two  blanks and\ta tab ", " A leading blank,\n\na blank line,\r\nand a trailing blank. "),
    ("cafe\u0301 nai\u0308ve", "Café, naïve: composed and decomposed; ﬁne ﬂour, ½ cup, № 5, ™, １２３."),
    ("emoji 🙂 👩‍👩‍👧", "Emoji 🙂👍🏽, flags 🇱🇺, zero\u200bwidth, no\u00a0break, soft\u00adhyphen, bom\ufeff."),
    ("special tokens", "<s> </s> [CLS] [SEP] [MASK] <|endoftext|> <|im_end|> are plain text here."),
    (
        "regular expression for an ISO date",
        "re.compile(r'\\d{4}-\\d{2}-\\d{2}')  # 2026-11-28, 3.14, 1,000,000, a_b-c/d",
    ),
    ("when was the bridge built", OVERLONG),
)
