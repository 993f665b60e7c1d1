"""Countries, their capitals and flags; Japan's prefectures whose capital has another name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Country:
    """A country as the questions name it."""

    name: str
    capital: str
    code: str
    """ISO 3166-1 alpha-2: its two letters are the flag's two regional indicators."""

    @property
    def flag(self) -> str:
        """The flag emoji: two code points of four UTF-8 bytes each."""
        return "".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in self.code)


_COUNTRIES = """
日本 東京 JP/フランス パリ FR/ドイツ ベルリン DE/イタリア ローマ IT/スペイン マドリード ES
ポルトガル リスボン PT/イギリス ロンドン GB/アイルランド ダブリン IE/オランダ アムステルダム NL
ベルギー ブリュッセル BE/スイス ベルン CH/オーストリア ウィーン AT/デンマーク コペンハーゲン DK
スウェーデン ストックホルム SE/ノルウェー オスロ NO/フィンランド ヘルシンキ FI
アイスランド レイキャビク IS/ポーランド ワルシャワ PL/チェコ プラハ CZ/ハンガリー ブダペスト HU
ルーマニア ブカレスト RO/ブルガリア ソフィア BG/ギリシャ アテネ GR/トルコ アンカラ TR
ウクライナ キーウ UA/ロシア モスクワ RU/クロアチア ザグレブ HR/セルビア ベオグラード RS
スロベニア リュブリャナ SI/スロバキア ブラチスラバ SK/エストニア タリン EE/ラトビア リガ LV
リトアニア ビリニュス LT/アルバニア ティラナ AL/中国 北京 CN/韓国 ソウル KR
モンゴル ウランバートル MN/ベトナム ハノイ VN/タイ バンコク TH/ラオス ビエンチャン LA
カンボジア プノンペン KH/ミャンマー ネピドー MM/マレーシア クアラルンプール MY
フィリピン マニラ PH/インド ニューデリー IN/パキスタン イスラマバード PK
バングラデシュ ダッカ BD/ネパール カトマンズ NP/ブータン ティンプー BT
アフガニスタン カブール AF/イラン テヘラン IR/イラク バグダッド IQ/サウジアラビア リヤド SA
カタール ドーハ QA/ヨルダン アンマン JO/レバノン ベイルート LB/シリア ダマスカス SY
クウェート クウェート市 KW/オマーン マスカット OM/カザフスタン アスタナ KZ
ウズベキスタン タシケント UZ/キルギス ビシュケク KG/アゼルバイジャン バクー AZ
ジョージア トビリシ GE/アルメニア エレバン AM/エジプト カイロ EG/モロッコ ラバト MA
アルジェリア アルジェ DZ/チュニジア チュニス TN/リビア トリポリ LY/スーダン ハルツーム SD
エチオピア アディスアベバ ET/ケニア ナイロビ KE/ウガンダ カンパラ UG/タンザニア ドドマ TZ
ルワンダ キガリ RW/ナイジェリア アブジャ NG/ガーナ アクラ GH/セネガル ダカール SN/マリ バマコ ML
アンゴラ ルアンダ AO/ザンビア ルサカ ZM/ジンバブエ ハラレ ZW/モザンビーク マプト MZ
マダガスカル アンタナナリボ MG/アメリカ ワシントン US/カナダ オタワ CA
メキシコ メキシコシティ MX/キューバ ハバナ CU/ジャマイカ キングストン JM/パナマ パナマシティ PA
コスタリカ サンホセ CR/コロンビア ボゴタ CO/ベネズエラ カラカス VE/ペルー リマ PE
エクアドル キト EC/チリ サンティアゴ CL/アルゼンチン ブエノスアイレス AR
ウルグアイ モンテビデオ UY/パラグアイ アスンシオン PY/ブラジル ブラジリア BR
オーストラリア キャンベラ AU/ニュージーランド ウェリントン NZ/フィジー スバ FJ
パラオ マルキョク PW/サモア アピア WS
"""

COUNTRIES = tuple(
    Country(*entry.split()) for line in _COUNTRIES.split("\n") if line for entry in line.split("/")
)

_PREFECTURES = """
北海道 札幌市/岩手県 盛岡市/宮城県 仙台市/茨城県 水戸市/栃木県 宇都宮市/群馬県 前橋市
埼玉県 さいたま市/神奈川県 横浜市/石川県 金沢市/山梨県 甲府市/愛知県 名古屋市/三重県 津市
滋賀県 大津市/兵庫県 神戸市/島根県 松江市/香川県 高松市/愛媛県 松山市/沖縄県 那覇市
"""

PREFECTURES = tuple(
    (prefecture, city)
    for line in _PREFECTURES.split("\n")
    if line
    for prefecture, city in [entry.split() for entry in line.split("/")]
)
"""Prefecture and the city of its government."""
